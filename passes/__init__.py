"""The passes of Sterna that belong to no target, by the names that pipelines call them."""

from xdsl.passes import ModulePass

from sterna.passes.choose_encodings import ChooseEncodingsPass
from sterna.passes.expand_math import ExpandMathPass
from sterna.passes.fold_weights import FoldWeightsPass
from sterna.passes.fuse_convolutions import FuseConvolutionsPass
from sterna.passes.fuse_elementwise import FuseElementwisePass
from sterna.passes.fuse_loops import FuseLoopsPass
from sterna.passes.fuse_norm_quantize import FuseNormQuantizePass
from sterna.passes.fuse_projections import FuseProjectionsPass
from sterna.passes.fuse_thresholds import FuseThresholdsPass
from sterna.passes.outline_layers import OutlineLayersPass
from sterna.passes.plan_memory import PlanMemoryPass
from sterna.passes.raise_bit_linear import RaiseBitLinearPass
from sterna.passes.raise_ternary_products import RaiseTernaryProductsPass
from sterna.passes.ternarize import TernarizePass
from sterna.passes.to_fixed_point import ToFixedPointPass

PASSES: dict[str, type[ModulePass]] = {
    "raise-bit-linear": RaiseBitLinearPass,
    "fold-weights": FoldWeightsPass,
    "raise-ternary-products": RaiseTernaryProductsPass,
    "fuse-convolutions": FuseConvolutionsPass,
    "fuse-thresholds": FuseThresholdsPass,
    "ternarize": TernarizePass,
    "fuse-norm-quantize": FuseNormQuantizePass,
    "fuse-projections": FuseProjectionsPass,
    "fuse-elementwise": FuseElementwisePass,
    "fuse-loops": FuseLoopsPass,
    "expand-math": ExpandMathPass,
    "choose-encodings": ChooseEncodingsPass,
    "outline-layers": OutlineLayersPass,
    "plan-memory": PlanMemoryPass,
    "to-fixed-point": ToFixedPointPass,
}

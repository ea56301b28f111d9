"""The recorder as an observer of `run_passes`."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.passes import ModulePass

from sterna.inspector.lineage import Rewrites, watch_rewrites
from sterna.inspector.recording import Recorder, Recording
from sterna.pass_runner import PassFailure, PassObserver, Stage, Step


class RecordPasses(PassObserver):
    """Records what every pass does; `recording` holds a pipeline that failed as far as it came."""

    def __init__(self) -> None:
        self._recorder: Recorder | None = None
        self._rewrites = Rewrites()

    @property
    def recording(self) -> Recording:
        return self._recorder.recording if self._recorder else Recording()

    def number_of(self, op: Operation) -> int:
        """The number that an op of the last stage has in the recording."""
        assert self._recorder is not None, "begin comes first"
        return self._recorder.number_of(op)

    def begin(self, passes: Sequence[ModulePass], stage: Stage) -> None:
        self._recorder = Recorder(stage.module)

    def before(self, step: Step, stage: Stage) -> None:
        assert self._recorder is not None, "begin comes first"
        self._recorder.before_pass(str(step.rewrite.spec()), stage.module)

    @contextmanager
    def during(self) -> Generator[Rewrites]:
        with watch_rewrites() as self._rewrites:
            yield self._rewrites

    def after(self, step: Step, stage: Stage, seconds: float) -> None:
        assert self._recorder is not None, "begin comes first"
        self._recorder.after_pass(stage.module, seconds, self._rewrites)

    def failed(self, failure: PassFailure, before: ModuleOp) -> None:
        assert self._recorder is not None, "begin comes first"
        self._recorder.failed(failure.complaint)

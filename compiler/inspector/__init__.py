"""Looking at what the compiler did: a recording of a pass pipeline, and the report that shows it in a browser."""

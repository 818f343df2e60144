"""How is one output region computed from one input region?  Engines know no files."""

"""The command line: parse, call one library function, print."""

import gc

gc.set_threshold(200_000)  # before all imports: they make much and drop nothing, looking for garbage costs up to 0.1 s

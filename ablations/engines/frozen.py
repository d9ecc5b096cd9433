"""The last thing that a fork server loads: what is there by now is never garbage.

Without this each stage looks once through all that torch and scikit-learn hold, which takes it 0.4 CPU seconds
(tests/benchmarks/NOTES.md) and makes its own copy of most of those pages.
"""

import gc

gc.freeze()

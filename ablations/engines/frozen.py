"""The last thing that a fork server loads: what is there by now is never garbage.

Without this each stage looks once through all that torch and scikit-learn hold, which takes it half a second and makes
its own copy of most of those pages.
"""

import gc

gc.freeze()

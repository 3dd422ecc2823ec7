"""`gengram doctor`: what the package finds on this machine, which kernels run, what to do where one does not."""

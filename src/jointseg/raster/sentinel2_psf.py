"""Point spread function of Sentinel-2's 10 m bands."""

# The MTF at the Nyquist frequency (1 / 20 m) is about 0.25:
# exp(-2 pi^2 sigma^2 / 20^2) = 0.25 for a Gaussian with sigma 5.3 m.
PSF_SIGMA_M = 5.3

"""What Sentinel-2's 10 m bands are like."""

# They pass about a quarter of the contrast at their Nyquist frequency (1 / 20 m):
# exp(-2 pi^2 sigma^2 / 20^2) = 0.25 for a Gaussian of 5.3 m.
PSF_SIGMA_M = 5.3

"""RivetKit's own published driver tests, run against hosts of this package."""

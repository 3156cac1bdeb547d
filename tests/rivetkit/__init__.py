"""RivetKit's npm client against a host, with actors that behave as those of RivetKit's own driver tests."""

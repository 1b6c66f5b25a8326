"""One function per verb of the product; every face calls these and nothing lower."""

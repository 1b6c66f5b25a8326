"""One open branch: its writer and readers, the commit log, shipping, recovery and fencing."""

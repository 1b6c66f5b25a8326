"""The client for programs with an event loop; what is here is written by hand."""

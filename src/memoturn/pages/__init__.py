"""From a position to page bytes: views, the page cache, and the SQLite VFS over them."""

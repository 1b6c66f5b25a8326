"""How pages are laid out in objects: LTX files, packs, bases. Pure bytes in, bytes out; knows no branch."""

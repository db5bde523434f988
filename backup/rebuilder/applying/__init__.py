"""Records of catalogs as rows of the new inventory, and packs that no catalog covers."""

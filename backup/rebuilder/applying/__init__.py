"""Applies records of catalogs as rows of the new inventory, and reads packs that no catalog covers."""

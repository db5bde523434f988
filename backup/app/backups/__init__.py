"""What a backup by a config is given (`contexts`); recovery lines, warnings of sources, amending."""

"""This machine: systemd's units, the renewal of its certificate, and the rights of the page's group."""

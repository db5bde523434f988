"""This machine: systemd units, the renewal of its certificate, and what the web page's group may read."""

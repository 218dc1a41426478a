"""One file per kind of device, each with one `KIND`; devices.registry finds them."""

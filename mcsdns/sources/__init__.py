"""Where objects come from; every source sends the events of `index.events`."""

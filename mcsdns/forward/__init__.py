"""Names outside our zones: queries to other servers, and the cache of their replies."""

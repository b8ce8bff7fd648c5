"""Everything outside our zones: questions to other servers, and what is kept of their replies."""

"""The tests of mcsdns; folders mirror those of `mcsdns`."""

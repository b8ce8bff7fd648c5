"""The commands and pages that show why names resolve or not, and what is wrong."""

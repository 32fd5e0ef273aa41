"""The command line: one small file a verb; parses, calls the library, prints."""

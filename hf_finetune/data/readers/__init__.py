"""One reader per container: files, folders, archives and the Hub become rows."""

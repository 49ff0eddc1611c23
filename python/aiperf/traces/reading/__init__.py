"""How trace files are read: lines of plain and compressed files, broken lines, columns, which format a file has."""

"""The user's files, read once for datasets and traces alike: lines of plain, `.gz` and `.zst` files in any Unicode encoding,
JSON Lines, JSON lists and CSV as records, what is wrong with one of them, and which format a file has.

Whatever the bytes, the outcome is records or a DatasetError that names file, line and column.
"""

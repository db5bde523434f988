"""The values of pages and API: frozen structs, with times in UTC, sizes in bytes, and StrEnums."""

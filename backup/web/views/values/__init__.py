"""The values that pages and the API show: plain and frozen, with times in UTC, whole bytes and StrEnums."""

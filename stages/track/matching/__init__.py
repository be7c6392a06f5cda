"""When an answer counts as right: matchers on plain strings, one module a kind of answer."""

"""Why a name is answered as it is, object by object; `explain.explain` is the entry."""

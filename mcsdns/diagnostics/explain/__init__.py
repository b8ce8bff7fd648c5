"""Why a name is answered as it is, object by object: `explain.decision.explain` says it all."""

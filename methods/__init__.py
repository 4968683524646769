"""The methods that come with ckl-bench, one module or package each, found through entry points."""

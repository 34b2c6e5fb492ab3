"""The trials: faults on a running deployment under load, and an auditor that trusts nothing that the product says."""

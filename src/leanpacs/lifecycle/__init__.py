"""What happens to instances after they have settled: policy, plan, tasks, and who runs them."""

"""What runs when: jobs, schedules, sensors, gaps."""

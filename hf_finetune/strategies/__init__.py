"""Freezing, parameter groups, phases, and architecture-aware defaults with their reasons."""

from hf_finetune.strategies.freeze import apply_phase, parameter_groups
from hf_finetune.strategies.phases import Phase, check_name, make_phases
from hf_finetune.strategies.plan import Plan, count_weights, make_plan, show_phase

"""Export to ONNX: conversion, comparison with the original, and the output folder."""

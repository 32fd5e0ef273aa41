"""ONNX: conversion, comparison with the original, and the folder that is handed on."""

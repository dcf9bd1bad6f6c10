"""mrl_db's client for VectorDBBench: this folder goes into its `backend/clients`."""

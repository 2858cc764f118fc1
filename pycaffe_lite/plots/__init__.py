"""Pictures: of nets (`layout`, `picture`), of training (`training_log`, `training_curves`) and of features (`embedding`)."""

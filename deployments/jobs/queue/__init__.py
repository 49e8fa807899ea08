"""Operations on jobs and on the queue."""

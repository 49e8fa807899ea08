"""Operations on images and inputs."""

FROM scratch
COPY echo /echo
ENTRYPOINT ["/echo"]
USER 65532:65532

# What a short-lived token for one purpose may do (autocode secret token): keep and read what the
# orchestrator put into the token's own cubbyhole, which nobody else sees and which ends with it.
path "cubbyhole/*" {
  capabilities = ["create", "read", "update"]
}

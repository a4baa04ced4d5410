{
  # For tools that call node-gyp: hands over to the same build as `npm run build`, which does nothing when nothing changed.
  # package.json says "gypfile": false, so that npm install never runs it.
  "targets": [
    {
      "target_name": "group_robust",
      "type": "none",
      "actions": [
        {
          "action_name": "npm_run_build",
          "inputs": [],
          "outputs": ["<(INTERMEDIATE_DIR)/always"],
          "action": ["node", "--import", "tsx", "src/install/build.ts"]
        }
      ]
    }
  ]
}

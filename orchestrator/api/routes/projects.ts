/** Projects and their tasks. */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Type } from "typebox";
import {
  NewProject,
  NewTask,
  Project,
  ProjectList,
  Task,
  TaskList,
} from "../../contract/projects.ts";
import type { Services } from "../services.ts";

const tags = ["projects"];
const NameParams = Type.Object({ name: Type.String({ maxLength: 100 }) });
/** A project file may be a million characters, each up to six bytes of JSON. */
const PROJECT_BODY_BYTES = 6_100_000;

export function projectRoutes({ projects }: Pick<Services, "projects">): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.post(
      "/projects",
      {
        // Applying a file funds the project's budget, which is an admin's to do.
        config: { access: "admin" },
        bodyLimit: PROJECT_BODY_BYTES,
        schema: {
          tags,
          summary: "Make or update the project that a project file describes",
          body: NewProject,
          response: { 200: Project },
        },
      },
      (request) => projects.apply(request.body),
    );

    api.get(
      "/projects",
      {
        config: { access: "viewer" },
        schema: { tags, summary: "All projects", response: { 200: ProjectList } },
      },
      async () => ({ projects: await projects.list() }),
    );

    api.get(
      "/projects/:name",
      {
        config: { access: "viewer" },
        schema: { tags, summary: "One project", params: NameParams, response: { 200: Project } },
      },
      (request) => projects.get(request.params.name),
    );

    api.get(
      "/projects/:name/tasks",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "A project's tasks",
          params: NameParams,
          response: { 200: TaskList },
        },
      },
      async (request) => ({ tasks: await projects.tasks(request.params.name) }),
    );

    api.post(
      "/projects/:name/tasks",
      {
        config: { access: "operator" },
        schema: {
          tags,
          summary: "Import a task folder; the same content twice is one task",
          params: NameParams,
          body: NewTask,
          response: { 200: Task },
        },
      },
      (request) => projects.importTask(request.params.name, request.body.folder),
    );
  };
}

import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { PackerModule } from './packer.module';

async function bootstrap() {
  const app = await NestFactory.createApplicationContext(PackerModule);
  app.enableShutdownHooks();
}
void bootstrap();
